"""The processes of a cluster: Celery app, roles, dispatcher, command line, demo.

The highest floor: it may import `tasks`, `chain`, `storage` and, for the demo, `compose`; nothing imports it. The work
itself is in `tasks`.
"""
