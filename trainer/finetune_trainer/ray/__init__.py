"""A Ray cluster made of a job's own pods: pod 0 is the head and holds the driver, and Ray Train runs the workers."""
