"""Life cycle of models: training, studies, promotion, drift, export."""
