"""Stage 2: candidates and a multimodal model's answers become a posterior on the sphere with calibrated radii."""
