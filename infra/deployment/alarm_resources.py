"""The alarms of infra/deployment/alarms.py as resources of the template.

`complete` adds the alarms to the packaged template. Every alarm publishes to the topic
`AlarmsTopic` when it starts and when it ends. Its description links to the section of
docs/operating.md that says what to do; the parameter RunbookUrl has the address.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from infra.deployment.alarms import ROLLBACK_ALARMS, SYMPTOMS, metrics_of_small
from infra.deployment.symptoms import Json, Part, PerStage, Statistic, Symptom


@dataclass(frozen=True)
class Alarm:
    """One alarm: a symptom of one part."""

    symptom: Symptom
    part: Part

    @property
    def name(self) -> str:
        """Its name without the name of the stack: `dead-letters-sweeps`."""
        return "-".join(word for word in (self.symptom.name, self.part.name) if word)

    @property
    def logical_id(self) -> str:
        """Its logical id in the template."""
        return camel(self.name) + "Alarm"

    @property
    def in_small(self) -> bool:
        """Whether a small stage has it: deployments are rolled back there, too."""
        return self.symptom.in_small or self.name in ROLLBACK_ALARMS

    @property
    def threshold(self) -> PerStage:
        """The threshold of the part; without one, that of the symptom."""
        symptom = self.symptom
        return symptom.parts_with_own_threshold.get(self.part.name, symptom.threshold)

    @property
    def setting(self) -> str:
        """The key of the threshold in the template's settings of each stage."""
        is_own = self.part.name in self.symptom.parts_with_own_threshold
        return camel(self.name if is_own else self.symptom.name)

    def resource(self) -> Json:
        """The alarm in CloudFormation's form."""
        symptom = self.symptom
        meaning = symptom.meaning.format(part=self.part.name)
        statistic = symptom.statistic
        kind = "ExtendedStatistic" if statistic is Statistic.P99 else "Statistic"
        return {
            "Type": "AWS::CloudWatch::Alarm",
            **({} if self.in_small else {"Condition": "IsFull"}),
            "Properties": {
                "AlarmName": {"Fn::Sub": f"credits-${{Stage}}-{self.name}"},
                "AlarmDescription": {"Fn::Sub": f"{meaning} See ${{RunbookUrl}}#{symptom.name}"},
                "Namespace": symptom.namespace,
                "MetricName": symptom.metric,
                "Dimensions": [
                    {"Name": name, "Value": value} for name, value in self.part.dimensions.items()
                ],
                kind: statistic.value,
                "Period": symptom.seconds,
                "EvaluationPeriods": symptom.periods,
                "DatapointsToAlarm": symptom.periods,
                "ComparisonOperator": symptom.rings.value,
                "Threshold": {"Fn::FindInMap": ["Alarms", {"Ref": "Stage"}, self.setting]},
                "TreatMissingData": symptom.missing.value,
                "AlarmActions": [{"Ref": "AlarmsTopic"}],
                "OKActions": [{"Ref": "AlarmsTopic"}],
            },
        }


def camel(name: str) -> str:
    """A name in CloudFormation's form: `dead-letters` becomes DeadLetters."""
    return "".join(word.capitalize() for word in re.split(r"\W+", name))


def alarms_of(template: Json) -> list[Alarm]:
    """Every alarm that the resources of a template need."""
    return [Alarm(symptom, part) for symptom in SYMPTOMS for part in symptom.parts(template)]


def complete(template: Json) -> None:
    """Adds the alarms, the thresholds of each stage and the list of metrics to a template."""
    found = alarms_of(template)
    thresholds = {alarm.setting: alarm.threshold for alarm in found}
    dev = {name: threshold.dev for name, threshold in thresholds.items()}
    prod = {name: threshold.prod for name, threshold in thresholds.items()}
    template["Mappings"]["Alarms"] = {"local": dev, "dev": dev, "prod": prod}
    template["Resources"] |= {alarm.logical_id: alarm.resource() for alarm in found}
    # SAM adds the variables of `Globals` to those of each function. Empty means every metric.
    template["Globals"]["Function"]["Environment"] = {
        "Variables": {"METRICS": {"Fn::If": ["IsFull", "", ",".join(metrics_of_small())]}}
    }
