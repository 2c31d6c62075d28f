"""The conformance kit for backends.

`checks` selects the laws that apply to a backend. `operator_laws` holds the laws of products, `weight_laws`
those of the loss over the weights, `classifier_laws` those of logits and derivatives over the inputs;
`comparisons` and `differences` are how they compare numbers. `subject` binds a problem on the backend under
test.
"""
