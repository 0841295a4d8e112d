import json

import pytest

from edge.domain.errors import NotFound
from edge.domain.lifecycle import State
from edge.domain.models import ModelId, ModelSpec
from edge.domain.ports import ModelStatus, VersionStatus
from edge.domain.requests import ModelInfo
from edge.domain.tensors import DType, Quantization, Signature, TensorSpec
from edge.wire.tfserving_status import STATES, encode_metadata, encode_status

GOLDEN_STATUS = b"""{
 "model_version_status": [
  {
   "version": "123",
   "state": "AVAILABLE",
   "status": {
    "error_code": "OK",
    "error_message": ""
   }
  }
 ]
}
"""

GOLDEN_METADATA = b"""{
"model_spec":{
 "name": "m",
 "signature_name": "",
 "version": "123"
}
,
"metadata": {"signature_def": {
 "signature_def": {
  "serving_default": {
   "inputs": {
    "x": {
     "dtype": "DT_UINT8",
     "tensor_shape": {
      "dim": [
       {
        "size": "-1",
        "name": ""
       }
      ],
      "unknown_rank": false
     },
     "name": "x:0"
    }
   },
   "outputs": {
    "y": {
     "dtype": "DT_FLOAT",
     "tensor_shape": {
      "dim": [],
      "unknown_rank": true
     },
     "name": "y"
    }
   },
   "method_name": "tensorflow/serving/predict",
   "defaults": {}
  }
 }
}
}
}
"""


def status(*versions: tuple[int, State, str]) -> ModelStatus:
    return ModelStatus(
        "m", [VersionStatus(ModelId("m", number), state, reason) for number, state, reason in versions], {}
    )


def test_status_is_laid_out_as_protobuf_prints_it() -> None:
    assert encode_status(status((123, State.READY, "slow lane")), ModelSpec("m")) == GOLDEN_STATUS


def test_every_version_is_told_newest_first_and_a_label_changes_nothing() -> None:
    versions = [(number, state, "") for number, state in enumerate(State)]
    told = json.loads(encode_status(status(*versions), ModelSpec("m", label="stable")))["model_version_status"]
    assert [version["version"] for version in told] == ["6", "5", "4", "3", "2", "1", "0"]
    assert [version["state"] for version in told] == [
        "END",
        "END",
        "UNLOADING",
        "AVAILABLE",
        "LOADING",
        "LOADING",
        "START",
    ]
    assert set(STATES) == set(State)


def test_a_failed_version_tells_why() -> None:
    text = encode_status(status((2, State.FAILED, 'no "file" <x> é'), (1, State.READY, "")), ModelSpec("m", 2))
    (told,) = json.loads(text)["model_version_status"]
    assert told["status"] == {"error_code": "UNKNOWN", "error_message": 'no "file" <x> é'}
    assert b"\\u003cx\\u003e \xc3\xa9" in text


@pytest.mark.parametrize(
    ("known", "spec"),
    [(None, ModelSpec("m")), (status(), ModelSpec("m")), (status((1, State.READY, "")), ModelSpec("m", 2))],
)
def test_a_version_that_is_not_there_is_not_found(known: ModelStatus | None, spec: ModelSpec) -> None:
    with pytest.raises(NotFound) as caught:
        encode_status(known, spec)
    assert caught.value.spec == spec


def test_metadata_is_laid_out_as_tensorflow_serving_concatenates_it() -> None:
    signature = Signature(
        "serving_default",
        {"x": TensorSpec("x:0", DType.UINT8, (-1,), Quantization(0.5, 3))},
        {"y": TensorSpec("y", DType.FLOAT32, None)},
    )
    info = ModelInfo(ModelId("m", 123), "tflite", "cpu", {"serving_default": signature}, (123,), 1)
    assert encode_metadata(info) == GOLDEN_METADATA


def test_every_element_type_has_tensorflows_name() -> None:
    for dtype in DType:
        signature = Signature("s", {"x": TensorSpec("x", dtype, (2, 3))}, {})
        text = encode_metadata(ModelInfo(ModelId("m", 1), "tflite", "cpu", {"s": signature}, (1,), 1)).decode()
        told = json.loads(text)["metadata"]["signature_def"]["signature_def"]["s"]["inputs"]["x"]
        assert told["dtype"].startswith("DT_")
        assert [dim["size"] for dim in told["tensor_shape"]["dim"]] == ["2", "3"]
