"""From raw digital numbers to an answer: model cards, bundles, predictors, devices and back ends."""
