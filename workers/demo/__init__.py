"""The demonstration: the whole road on this machine, from training a model to a settled challenge.

`world` starts the parts and the actors, `provider` trains and writes the files that they publish (a process of its
own, since it needs TensorFlow), `market` opens the challenges and says how each must end, `show` draws the progress and
the final table, `page` writes the HTML report. Nothing here is a stand-in: the chain, the node, the queues and the
workers are the ones that production runs.
"""
