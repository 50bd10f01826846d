"""What holds for every test: no property test fails because the machine is busy."""

from hypothesis import settings

settings.register_profile("fairlead", deadline=None)
settings.load_profile("fairlead")
