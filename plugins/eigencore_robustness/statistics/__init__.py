"""The statistics of the robustness analysis. They take NumPy arrays, return frozen records and round nothing.

    intervals           estimates with 95 % intervals, or the reason why there is none; bootstrap
    rank_correlation    Spearman's correlation, variance inflation, detectable correlations
    calibration         the error of an estimator after rescaling by one factor
    flexible_controls   what splines of other columns leave open of a column; cross-validated R2
    added_information   whether a column adds information beyond others, is redundant given them, or neither
    across_networks     rank correlations across networks, with permutation tests

A distance d is (n,). It is infinite if the attack did not fool the sample, so that only a lower limit of the
norm that the attack needs is known: such a sample is *censored*. In ranks these samples are tied at the top;
statistics of the logarithm of d leave them out and count them. NaN means that a sample has no value: it is
left out and counted.

With fewer than `intervals.MINIMUM` fooled samples, estimates come without intervals and nothing is claimed.
"""
