"""The tooling of one machine: set-up, services, the demo. The library never imports it."""
