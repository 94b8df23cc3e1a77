import pytest

from piano_assets_tests.analysis.tiny_networks import TinyNetworks


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> TinyNetworks:
    return TinyNetworks(tmp_path_factory.mktemp("tiny_networks"))
