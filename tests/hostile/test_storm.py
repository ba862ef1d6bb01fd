"""Many strangers that do their worst at once cost little, and a client beside them is served.

`make fuzz ARGS='--storm --minutes 1'` takes longer, and is strict.
"""

from __future__ import annotations

from tests.conftest import Launcher
from tests.hostile.storm import storm

# Of half a client's throughput that is to stay. Those who attack share the processors with the
# victim here, and all of them with other tests.
LEAST = 0.1


async def test_a_client_is_served_while_strangers_do_their_worst(launcher: Launcher) -> None:
    weather = await storm(launcher, seconds=6)
    assert weather.most_mib < 200, weather
    assert weather.after_mib < 150, weather
    assert weather.health_median_s < 1, weather
    assert weather.health_longest_s < 5, weather
    assert weather.beside > weather.alone * LEAST, weather
