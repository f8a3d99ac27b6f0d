"""The parts that the algorithms are composed of: one kind of part per file, in the order of the loop."""

from agentrl.trainers.standard.advantages import GroupAdvantage, LeaveOneOut, TurnAdvantage, Whitened
from agentrl.trainers.standard.aggregates import EpisodeMean, TokenMean
from agentrl.trainers.standard.bounds import FixedBounds, Unbounded
from agentrl.trainers.standard.corrections import MismatchCorrection
from agentrl.trainers.standard.ratios import GeometricMeanRatio, ProductRatio, TokenRatio
from agentrl.trainers.standard.regularisers import Estimator, KlPenalty
from agentrl.trainers.standard.rewards import EnvironmentReward, OverlongPenalty, PenaliseTruncated
from agentrl.trainers.standard.sampling import DropFlat
from agentrl.trainers.standard.surrogates import Cispo, PpoClip, Sapo
from agentrl.trainers.standard.token_rewards import KlReward

__all__ = [
    "Cispo",
    "DropFlat",
    "EnvironmentReward",
    "EpisodeMean",
    "Estimator",
    "FixedBounds",
    "GeometricMeanRatio",
    "GroupAdvantage",
    "KlPenalty",
    "KlReward",
    "LeaveOneOut",
    "MismatchCorrection",
    "OverlongPenalty",
    "PenaliseTruncated",
    "PpoClip",
    "ProductRatio",
    "Sapo",
    "TokenMean",
    "TokenRatio",
    "TurnAdvantage",
    "Unbounded",
    "Whitened",
]
