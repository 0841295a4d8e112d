from edge.domain.errors import Code, EdgeError
from edge.wire.status import GRPC_STATUS, HTTP_STATUS


def _all_errors(cls: type[EdgeError]) -> list[type[EdgeError]]:
    return [sub for direct in cls.__subclasses__() for sub in (direct, *_all_errors(direct))]


def test_every_code_has_a_status_and_every_error_a_code() -> None:
    assert set(HTTP_STATUS) == set(GRPC_STATUS) == set(Code)
    assert all(isinstance(error.code, Code) for error in _all_errors(EdgeError))
