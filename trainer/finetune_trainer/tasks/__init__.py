"""What differs between tasks: which columns, which model class, how a batch looks, which metrics."""
