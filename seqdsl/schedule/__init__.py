"""In which loops the equations of a layer run."""
