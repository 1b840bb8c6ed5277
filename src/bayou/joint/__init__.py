"""The joint log density of everything unknown in a model and its gradient: what NUTS and bridge sampling work on."""

from bayou.joint.density import JointDensity, joint_density

__all__ = ["JointDensity", "joint_density"]
