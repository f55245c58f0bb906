"""Tests of the deployment: the local stack with its real parts, the set-up script, and the compose files."""
