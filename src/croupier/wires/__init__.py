"""What lives on the wires of a round's networks: processes of ours that carry a fault out, one kind a file.

Each is started in the hub of a network or at one of its homes, ends by itself when its time is over, and leaves
nothing: when it has ended, what it did is undone.
"""
