"""The kinds of number that fields of a config hold."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, PlainSerializer

from mae_dist.config.duration import Duration, parse_duration
from mae_dist.config.workers import WorkerRange, parse_workers, plain_workers

Length = Annotated[Duration, BeforeValidator(parse_duration), PlainSerializer(str)]
Workers = Annotated[WorkerRange, BeforeValidator(parse_workers), PlainSerializer(plain_workers)]
Positive = Annotated[int, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(gt=0)]
