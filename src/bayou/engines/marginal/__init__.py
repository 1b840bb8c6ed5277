"""What the engines that maximise a marginal likelihood share: parameters, descent, criteria, results."""
