"""What the server's MQTT is measured against: a responder that sends back what it gets, on paho and uvloop.

    python -m benchmarks.mqtt_echo PORT TOPIC [MODEL]

With a TFLite model, it is run on each payload first, by one interpreter, and its answer is dropped: what that takes more is
the inference as it is between messages, which is more than in a loop of nothing else, as caches hold other things by then.

Says a line when it has subscribed. The answer has the request's payload and its properties; a request of QoS 1 is
acknowledged once the answer is under way, as whoever must not lose it does. Rule: nothing is here that a script of forty lines would not have.
"""

import asyncio
import socket
import sys
from collections.abc import Callable
from typing import Any

import uvloop
from paho.mqtt.client import Client, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

ECHOED = ("CorrelationData", "ContentType", "MessageExpiryInterval", "UserProperty")


async def echo(port: int, topic: str, run: Callable[[bytes], object]) -> None:
    loop = asyncio.get_running_loop()
    client: Any = Client(CallbackAPIVersion.VERSION2, protocol=MQTTv5, manual_ack=True)
    client.connect("127.0.0.1", port)
    connection: Any = client.socket()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def answer(_client: Any, _data: Any, message: Any) -> None:
        asked = message.properties
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        for name in ECHOED:
            if (value := getattr(asked, name, None)) is not None:
                setattr(properties, name, value)
        run(message.payload)
        client.publish(asked.ResponseTopic, message.payload, message.qos, properties=properties)
        if message.qos:
            client.ack(message.mid, message.qos)

    client.on_message = answer
    client.on_subscribe = lambda *_: print("subscribed", flush=True)
    client.on_connect = lambda *_: client.subscribe(topic, 1)
    client.on_socket_register_write = lambda *_: loop.add_writer(connection.fileno(), client.loop_write)
    client.on_socket_unregister_write = lambda *_: loop.remove_writer(connection.fileno())
    loop.add_reader(connection.fileno(), client.loop_read)
    if client.want_write():
        loop.add_writer(connection.fileno(), client.loop_write)
    while True:
        await asyncio.sleep(1)
        client.loop_misc()


def runner(path: str) -> Callable[[bytes], object]:
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path, num_threads=1)
    interpreter.allocate_tensors()
    (given,), (made,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run(payload: bytes) -> object:
        interpreter.set_tensor(given["index"], np.frombuffer(payload, given["dtype"]).reshape(given["shape"]))
        interpreter.invoke()
        return interpreter.get_tensor(made["index"])

    return run


if __name__ == "__main__":
    uvloop.run(echo(int(sys.argv[1]), sys.argv[2], runner(sys.argv[3]) if sys.argv[3:] else lambda payload: None))
