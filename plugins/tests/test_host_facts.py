import socket

from filter.showsite import mosquitto_password
from modules import host_facts

TABLE = """  sl  local_address rem_address   st tx_queue rx_queue
   0: 0100007F:0019 00000000:0000 0A 00000000:00000000
   1: 00000000:075B 00000000:0000 0A 00000000:00000000
   2: 0100007F:D431 0100007F:0019 01 00000000:00000000
"""


def test_only_listening_ports_count() -> None:
    assert host_facts.listening(TABLE) == {25, 1883}


ARP = """IP address       HW type     Flags       HW address            Mask     Device
10.9.0.2         0x1         0x2         02:42:0a:09:00:02     *        eth0
10.9.0.3         0x1         0x0         00:00:00:00:00:00     *        eth0
"""


def test_neighbours_that_are_not_there_are_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        # A port that refuses is a machine that lives; 192.0.2.0/24 is nobody's.
        neighbours = {"up": ["127.0.0.1", port], "closed": ["127.0.0.1", 9], "gone": ["192.0.2.77", 22]}
        assert host_facts.silent(neighbours) == ["gone"]
    assert host_facts.silent({}) == []


def test_a_firewalled_machine_still_answers_arp() -> None:
    assert host_facts.in_arp_table("10.9.0.2", ARP)
    assert not host_facts.in_arp_table("10.9.0.3", ARP)
    assert not host_facts.in_arp_table("10.9.0.4", ARP)


TRIE = """     +-- 10.9.0.0/24 2 0 2
        |-- 10.9.0.0
           /32 link BROADCAST
        |-- 10.9.0.10
           /32 host LOCAL
        |-- 10.9.0.255
           /32 link BROADCAST
"""


def test_own_addresses_are_known_from_foreign_ones() -> None:
    assert host_facts.own_address("10.9.0.10", TRIE)
    assert not host_facts.own_address("10.9.0.255", TRIE)
    assert not host_facts.own_address("10.9.0.1", TRIE)


def test_a_password_line_is_stable_and_differs_by_user_and_password() -> None:
    line = mosquitto_password("secret", "decoder")
    assert line == mosquitto_password("secret", "decoder")
    assert line.startswith("$7$101$")
    assert len({line, mosquitto_password("secret", "other"), mosquitto_password("else", "decoder")}) == 3
