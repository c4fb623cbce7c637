"""MetaSegNet: metadata -> climate zone -> text -> segmentation.

Read `network`, `matching`, then `training`.
"""
