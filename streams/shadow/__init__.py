"""Another policy beside the live one: it decides about the live inputs, and routes nothing.

`twin` follows the journal and is pure; `follow` feeds it from the broker and keeps what differs.
"""
