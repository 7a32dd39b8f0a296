"""What happens to models: training, studies, promotion, drift, export."""
