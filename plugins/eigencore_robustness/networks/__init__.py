"""Studies across networks: one network in a row, and what the rows show.

network            the analysis `network`: the numbers that networks are compared by
ranks              the analysis `ranks`: what ranks the samples of a network by their distance
network_inference  which columns of a study are tested against which
commands           the command `eigen study`
"""
