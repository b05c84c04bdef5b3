"""Say what is there, and leave in order."""

import atexit

atexit.register(session.close)
print(session.description)
