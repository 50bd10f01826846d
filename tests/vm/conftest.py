from tests.netns.conftest import namespaces

__all__ = ["namespaces"]
