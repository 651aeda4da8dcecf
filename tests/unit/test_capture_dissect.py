"""Which messages a capture holds: totals over the recorded ones (tshark counts the same), odd cases over synthetic ones."""

from collections import Counter

import pytest
from capture_builder import ALICE, ALICE6, BOB, BOB6, CAPTURES, RECORDED, setup_packets, tcp, udp, write

from gatekeeperd.capture.dissect import Dissector, Incomplete, Pdu, Protocol, Undecoded
from gatekeeperd.capture.facts import facts
from gatekeeperd.capture.files import read_frames
from gatekeeperd.wire import h225, h245, q931, tpkt
from gatekeeperd.wire.q931 import MessageType

VERSION = (0, 0, 8, 2250, 0, 7)
CALL = {"guid": bytes(range(16))}
END_SESSION = h245.encode(("command", ("endSessionCommand", ("disconnect", None))))


def dissect(path):
    dissector = Dissector()
    return list(dissector.dissect(read_frames(path))), dissector


def synthetic(tmp_path, packets):
    return dissect(write(tmp_path / "synthetic.pcap", packets))


def signalling(body, message_type=MessageType.FACILITY, **information) -> bytes:
    value = {"h323-uu-pdu": {"h323-message-body": body, **information}}
    return q931.encode(
        q931.make(message_type, 7, from_destination=False, user_user=h225.encode_user_information(value)),
    )


def address(end):
    host, port = end
    if ":" in host:
        return ("ip6Address", {"ip": bytes.fromhex("20010db8") + bytes(11) + bytes([int(host[-1])]), "port": port})
    return ("ipAddress", {"ip": bytes(map(int, host.split("."))), "port": port})


def call_proceeding(**fields):
    return (
        "callProceeding",
        {
            "protocolIdentifier": VERSION,
            "destinationInfo": {"mc": False, "undefinedNode": False},
            "callIdentifier": CALL,
            **fields,
        },
    )


def registration(ras, signal, sequence=1) -> bytes:
    return h225.encode_ras(
        (
            "registrationRequest",
            {
                "requestSeqNum": sequence,
                "protocolIdentifier": VERSION,
                "discoveryComplete": True,
                "callSignalAddress": [address(signal)],
                "rasAddress": [address(ras)],
                "terminalType": {"mc": False, "undefinedNode": False},
                "endpointVendor": {"vendor": {"t35CountryCode": 9, "t35Extension": 0, "manufacturerCode": 61}},
                "keepAlive": False,
            },
        )
    )


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_captures(name):
    items, dissector = dissect(CAPTURES / f"{name}.pcap")
    assert all(isinstance(item, Pdu) for item in items), [item for item in items if not isinstance(item, Pdu)]
    counts = Counter(item.protocol for item in items)
    assert (*(counts[protocol] for protocol in Protocol), dissector.other_datagrams) == RECORDED[name]
    assert (dissector.other_segments, dissector.unread_frames) == (0, 0)
    assert [item.index for item in items] == list(range(len(items)))
    for item in items:
        if item.parent is not None:
            parent = items[item.parent]
            assert item.octets in parent.octets
            assert item.origin == parent.origin
        assert all(fact.isprintable() for fact in facts(item))


def test_fast_start_is_within_h225_within_q931():
    items, _ = dissect(CAPTURES / "04-direct-faststart.pcap")
    setup = next(item for item in items if item.name == "Setup")
    inner = items[setup.index + 1 : setup.index + 6]
    assert [item.protocol for item in inner] == [Protocol.H225] + [Protocol.FAST_START] * 4
    assert [item.parent for item in inner] == [setup.index] + [setup.index + 1] * 4
    assert facts(inner[2]) == ["channel 101", "sends g711Alaw64k"]


def test_facts_of_a_registration():
    items, _ = dissect(CAPTURES / "01-ras-discovery-register-keepalive-unregister.pcap")
    request = next(item for item in items if item.name == "registrationRequest")
    assert {"alias alice, 1001", "signalling 10.77.0.11:1720", "TTL 60", "gatekeeper PeerGk"} <= set(facts(request))


def test_ras_is_followed_to_the_addresses_that_it_tells(tmp_path):
    odd, elsewhere = ("10.0.0.5", 33333), ("10.0.0.5", 44444)
    answer = h225.encode_ras(("unregistrationConfirm", {"requestSeqNum": 9}))
    items, dissector = synthetic(
        tmp_path,
        [
            udp(("10.0.0.7", 5), odd, b"before anyone told of the address"),
            udp(odd, ("10.0.0.1", 1719), registration(elsewhere, ALICE)),
            udp(("10.0.0.8", 5), elsewhere, answer),
            udp(("10.0.0.8", 5), odd, answer),
        ],
    )
    assert [(item.origin.frame, item.name) for item in items] == [
        (2, "registrationRequest"),
        (3, "unregistrationConfirm"),
        (4, "unregistrationConfirm"),
    ]
    assert dissector.other_datagrams == 1


def test_signalling_is_followed_to_the_address_of_a_registration_and_on_to_h245(tmp_path):
    signal, control = ("2001:db8::9", 2777), ("2001:db8::9", 50001)
    items, dissector = synthetic(
        tmp_path,
        [
            *setup_packets([b"untold"], ALICE6, ("2001:db8::9", 9999)),
            udp(BOB6, ("2001:db8::1", 1719), registration(BOB6, signal)),
            *setup_packets([signalling(call_proceeding(h245Address=address(control)))], signal, ALICE6),
            *setup_packets([END_SESSION], ALICE6, control),
        ],
    )
    assert [(item.protocol, item.name) for item in items] == [
        (Protocol.RAS, "registrationRequest"),
        (Protocol.Q931, "Facility"),
        (Protocol.H225, "callProceeding"),
        (Protocol.H245, "endSessionCommand"),
    ]
    assert "H.245 at [2001:db8::9]:50001" in facts(items[2])
    assert dissector.other_segments == 2


def test_tunnel_and_parallel_tunnel(tmp_path):
    setup = (
        "setup",
        {
            "protocolIdentifier": VERSION,
            "sourceInfo": {"mc": False, "undefinedNode": False},
            "activeMC": False,
            "conferenceID": bytes(16),
            "conferenceGoal": ("create", None),
            "callType": ("pointToPoint", None),
            "callIdentifier": CALL,
            "mediaWaitForConnect": False,
            "canOverlapSend": False,
            "parallelH245Control": [END_SESSION],
        },
    )
    data = signalling(setup, MessageType.SETUP, h245Tunnelling=True, h245Control=[END_SESSION, b"\xff"])
    items, _ = synthetic(tmp_path, setup_packets([data]))
    assert [(item.protocol, item.parent) for item in items] == [
        (Protocol.Q931, None),
        (Protocol.H225, 0),
        (Protocol.H245, 1),
        (Protocol.H245, 1),
        (Protocol.H245, 1),
    ]
    # The tunnel's second message is damaged: it is told, and what follows it is still read.
    assert [type(item) for item in items[2:]] == [Pdu, Undecoded, Pdu]


def test_segments_in_any_order_and_cut_anywhere(tmp_path):
    stream = b"".join(tpkt.encode(signalling(call_proceeding())) for _ in range(3))
    pieces = [tcp(ALICE, BOB, 1001 + at, stream[at : at + 37]) for at in range(0, len(stream), 37)]
    shuffled = [tcp(ALICE, BOB, 1000, syn=True), *reversed(pieces), *pieces[:2]]
    items, _ = synthetic(tmp_path, shuffled)
    assert [item.name for item in items] == ["Facility", "callProceeding"] * 3


def test_empty_packets_are_keep_alives(tmp_path):
    items, _ = synthetic(tmp_path, setup_packets([b"", signalling(call_proceeding()), b""]))
    assert [item.name for item in items] == ["Facility", "callProceeding"]


def test_gap_is_told_and_reading_goes_on_behind_it(tmp_path):
    good = signalling(call_proceeding())
    packets = setup_packets([good] * 4)
    del packets[2]
    items, _ = synthetic(tmp_path, packets)
    assert [type(item) for item in items] == [Pdu, Pdu, Incomplete, Pdu, Pdu, Pdu, Pdu]
    assert items[2].reason == f"{len(good) + 4} octets before this segment were not captured"


def test_no_packet_is_kept_waiting_over_a_gap(tmp_path):
    good = tpkt.encode(signalling(call_proceeding()))
    size = len(good)
    packets = [
        tcp(ALICE, BOB, 1, good[:10]),
        tcp(ALICE, BOB, 1 + size, good[10:20]),  # a gap, then the middle of a packet
        tcp(ALICE, BOB, 11 + size, good),
    ]
    items, _ = synthetic(tmp_path, packets)
    assert [type(item) for item in items] == [Incomplete, Pdu, Pdu]


def test_stream_that_is_no_tpkt_is_told_once_and_found_again(tmp_path):
    good = signalling(call_proceeding())
    first, second, *_ = setup_packets([good])
    at = 1001 + len(good) + 4
    items, _ = synthetic(
        tmp_path,
        [
            first,
            second,
            tcp(ALICE, BOB, at, b"GET / HTTP"),
            tcp(ALICE, BOB, at + 10, b"/1.1"),
            tcp(ALICE, BOB, at + 14, tpkt.encode(good)),
        ],
    )
    assert [type(item) for item in items] == [Pdu, Pdu, Undecoded, Pdu, Pdu]
    assert (items[2].protocol, items[2].reason) == (Protocol.Q931, "TPKT: version 71, not 3")


def test_stream_that_ends_within_a_packet(tmp_path):
    items, _ = synthetic(tmp_path, [tcp(ALICE, BOB, 1, tpkt.encode(bytes(50))[:20])])
    assert items[-1] == Incomplete(items[-1].origin, "the stream ends 20 octets into a packet")


def test_ports_used_again_for_another_connection(tmp_path):
    good = signalling(call_proceeding())
    cut = [tcp(ALICE, BOB, 1000, syn=True), tcp(ALICE, BOB, 1001, tpkt.encode(good)[:-3])]
    items, _ = synthetic(tmp_path, [*cut, *setup_packets([good], sequence=90_000)])
    assert [type(item) for item in items] == [Incomplete, Pdu, Pdu]


def test_undecodable_messages_are_told_with_their_octets(tmp_path):
    bad_user_user = q931.encode(q931.decode(b"\x08\x02\x00\x01\x62\x7e\x00\x03\x04ab"))
    items, _ = synthetic(
        tmp_path,
        [udp(ALICE, ("10.0.0.1", 1719), b"\xff\xff\xff"), *setup_packets([b"\x09nonsense", bad_user_user])],
    )
    ras, bad_q931, facility, bad_h225 = items
    assert (ras.protocol, ras.octets) == (Protocol.RAS, b"\xff\xff\xff")
    assert (bad_q931.protocol, bad_q931.octets) == (Protocol.Q931, b"\x09nonsense")
    assert (bad_h225.protocol, bad_h225.octets, bad_h225.parent) == (Protocol.H225, b"\x04ab", facility.index)


def test_datagram_cut_by_the_snap_length(tmp_path):
    items, _ = synthetic(tmp_path, [udp(ALICE, ("10.0.0.1", 1719), registration(ALICE, ALICE))[:-5]])
    assert items[0].reason == "5 octets of the datagram were not captured"


def test_empty_datagram_is_passed_over(tmp_path):
    assert synthetic(tmp_path, [udp(ALICE, ("10.0.0.1", 1719), b"")])[0] == []


def test_facts_are_safe_to_print(tmp_path):
    gatekeeper = h225.encode_ras(
        (
            "gatekeeperReject",
            {
                "requestSeqNum": 1,
                "protocolIdentifier": VERSION,
                "gatekeeperIdentifier": "\x1b[2Jevil\n",
                "rejectReason": ("resourceUnavailable", None),
            },
        )
    )
    (item,), _ = synthetic(tmp_path, [udp(ALICE, ("10.0.0.1", 1719), gatekeeper)])
    assert facts(item) == ["seq 1", "resourceUnavailable", r"gatekeeper \x1b[2Jevil\n"]
