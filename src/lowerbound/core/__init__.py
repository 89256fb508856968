"""The seams of `lowerbound`: types, the one traversal, the model, objectives, recipes, records, errors."""
