"""Training: recipes, Lightning modules, fitting, tuning, export."""
