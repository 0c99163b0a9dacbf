"""Pictures of samples, and log back ends."""
