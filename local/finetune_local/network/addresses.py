"""Loopback addresses: one for each pod and each Service, 127.x.y.z but never 127.0.0.1."""

import ipaddress
import random
import socket

SERVICES_OCTET = 96
"""Second octet of the addresses that the API server gives to Services."""


class AddressPool:
    """Addresses of one /16 of 127.0.0.0/8. Where the machine has 127.0.0.1 only (macOS), everyone gets that."""

    def __init__(self, second_octet: int | None = None) -> None:
        chosen = second_octet or random.choice([octet for octet in range(16, 251) if octet != SERVICES_OCTET])
        self._base = int(ipaddress.IPv4Address(f"127.{chosen}.0.0"))
        self._next = random.randint(1, 200) * 256
        self._used: dict[str, str] = {}
        self._taken: set[str] = set()
        self.usable = can_bind(str(ipaddress.IPv4Address(self._base + 1)))

    def assign(self, owner: str) -> str:
        """The owner's address, a new one at first."""
        if owner not in self._used:
            self._used[owner] = self._pick() if self.usable else "127.0.0.1"
            self._taken.add(self._used[owner])
        return self._used[owner]

    def hand_over(self, owner: str, heir: str) -> None:
        """The heir gets the owner's address, unless it has one or there is none."""
        if owner in self._used and heir not in self._used:
            self._used[heir] = self._used.pop(owner)

    def release(self, owner: str) -> None:
        self._taken.discard(self._used.pop(owner, ""))

    def _pick(self) -> str:
        while True:
            self._next = (self._next + 1) % 65535
            address = str(ipaddress.IPv4Address(self._base + self._next))
            if self._next % 256 not in (0, 255) and address not in self._taken:
                return address


def can_bind(address: str, port: int = 0) -> bool:
    with socket.socket() as sock:
        try:
            sock.bind((address, port))
        except OSError:
            return False
    return True
