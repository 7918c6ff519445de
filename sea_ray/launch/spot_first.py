"""Ray's node provider for AWS with a fallback: where EC2 has no spot machine to give, the node is started on demand.

Ray's autoscaler 2 chooses among node types by their `priority` and by which of them came up lately. A launch that EC2 refuses
outright, as it does when a zone has no spot capacity, counts as neither (seen with Ray 2.60): the same type is asked for again
every few seconds, for ever, and a type of lower priority never has its turn. So the refusal is answered here, where it arrives.
The node keeps its type's name; EC2's own InstanceLifecycle says what it is. cluster.yaml names this class.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler.node_launch_exception import NodeLaunchException

REFUSALS = ("InsufficientInstanceCapacity", "InsufficientCapacity", "UnfulfillableCapacity", "SpotMaxPriceTooLow",
            "MaxSpotInstanceCountExceeded")
"""EC2's codes for: no spot machine of this kind now, or not for you."""
RETRY_SPOT_S = 600.0
"""After a refusal spot is not asked for so long: every refusal costs a round through all zones."""
_LOG = logging.getLogger(__name__)


class SpotFirst(AWSNodeProvider):
    """Starts spot nodes where they are to be had, and on-demand ones elsewhere."""

    _refused_at = float("-inf")

    def _create_node(self, node_config: dict[str, Any], tags: dict[str, str], count: int) -> dict[str, Any]:
        if "InstanceMarketOptions" not in node_config:
            return super()._create_node(node_config, tags, count)
        if time.monotonic() - self._refused_at >= RETRY_SPOT_S:
            try:
                return super()._create_node(node_config, tags, count)
            except NodeLaunchException as error:
                if error.category not in REFUSALS:
                    raise
                _LOG.warning("EC2 gives no spot %s (%s): on demand instead", node_config["InstanceType"], error.category)
                self._refused_at = time.monotonic()
        on_demand = {key: value for key, value in node_config.items() if key != "InstanceMarketOptions"}
        return super()._create_node(on_demand, tags, count)

