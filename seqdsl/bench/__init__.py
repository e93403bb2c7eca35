"""`seqdsl bench`: what a layer costs in each form and on each backend, beside its peers."""
