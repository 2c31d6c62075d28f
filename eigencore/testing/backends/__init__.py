"""The conformance kit for backends.

`checks` selects the laws that apply to a backend. `operator_laws` holds the laws of products, `weight_laws`
those of the loss as a function of the weights, and `classifier_laws` those of logits and of derivatives with
respect to the inputs. `comparisons` and `differences` compare their numbers. `subject` binds a problem on the
backend under test.
"""
