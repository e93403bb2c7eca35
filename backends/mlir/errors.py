"""What can go wrong between a region and its machine code."""


class KernelError(RuntimeError):
    """A kernel that could not be made, though its region looked as if it could."""
