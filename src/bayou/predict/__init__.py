"""What follows from draws: predictions, derived quantities, pointwise log likelihoods."""

from bayou.predict.prediction import Groups, Kind, integrated_mean, predict

__all__ = ["Groups", "Kind", "integrated_mean", "predict"]
