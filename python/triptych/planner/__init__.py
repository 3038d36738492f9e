"""What a run will take, before it starts: work, memory, time, money, and what laws say."""

from triptych.planner.planning import Machine, Plan, plan_run

__all__ = ["Machine", "Plan", "plan_run"]
