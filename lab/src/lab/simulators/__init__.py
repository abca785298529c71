"""
Simulated sensors, gateways and cloud services of a rehearsed site: `python -m lab.simulators.<name>`.

Each program is a stand-in for a device or service that a laptop cannot run. What they mimic comes from
public documentation and the observed behaviour of the real thing; none of them contains its code.
"""
