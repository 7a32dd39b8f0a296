"""A recipe whose training is instant: the test's bowl, with every way in which a trial can go wrong."""

import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar, Literal

from optuna.storages import RDBStorage
from pydantic import BaseModel, ConfigDict

from cloud_assets.learning.recipe import Recipe
from cloud_assets.learning.training_run import TrainingRun
from cloud_assets_tests.made_up_family import MADE_UP


class Schedule(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int | None = None
    max_epochs: int = 3
    rate: float = 0.1


class Bowl(Recipe):
    """Its loss is least at rate 0.3 and falls by the epoch."""

    family: ClassVar[str] = MADE_UP
    optimisation: Schedule = Schedule()  # type: ignore[assignment]
    shape: Literal["round", "square"] = "round"
    fault: Literal["none", "raise", "die", "die_once", "die_untold", "hang"] = "none"
    seconds: float = 0.0
    log: str = ""

    def make(self, run: TrainingRun) -> SimpleNamespace:
        run.workspace.mkdir(parents=True, exist_ok=True)
        been_here = run.workspace / "been_here"
        first_time = not been_here.exists()
        been_here.touch()
        if self.log:
            with Path(self.log).open("a", encoding="utf-8") as log:
                log.write(f"{os.getpid()} {run.workspace.name} {self.optimisation.rate!r} {first_time}\n")
        if self.fault == "raise":
            raise ArithmeticError("the bowl is broken")
        if self.fault == "die" or (self.fault == "die_once" and first_time):
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fault == "die_untold" and first_time:  # trained, and killed before the storage knows
            RDBStorage.set_trial_state_values = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment, method-assign]
        history = []
        for epoch in range(self.optimisation.max_epochs):
            time.sleep(1000 if self.fault == "hang" else self.seconds)
            loss = (self.optimisation.rate - 0.3) ** 2 + (self.shape == "square") + 1 / (epoch + 1)
            history.append({"val_loss": loss, "threads": float(os.environ.get("OMP_NUM_THREADS", "0"))})
            run.on_epoch(epoch, history[-1])
        return SimpleNamespace(card=SimpleNamespace(training=SimpleNamespace(history=history)))
