"""Telling people: a kill becomes a message, which waits in a queue for each receiver until that has it.

``desk.py`` decides what is told and when; ``worker.py`` sends, one thread for each receiver; a channel
(``log.py``, ``webhook.py``, ``alertmanager.py``) makes one attempt and says how it went. No channel knows
another one.
"""
