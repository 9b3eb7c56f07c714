"""The engines, a file each: where clients run."""
