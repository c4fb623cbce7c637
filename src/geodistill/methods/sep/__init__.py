"""SEP, SAMRS's segmentation pre-training: one encoder and decoder learn several data sets at once, a head for each.

Any number of sets with any classes; the heads are left behind and the rest is fine-tuned on a set of its own.
Read `network`, `training`, then `mask2former`; how a batch is shared out among the sets is in
`geodistill.data.several_sets`.
"""
