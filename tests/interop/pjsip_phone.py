"""A phone made with pjsua2: `python pjsip_phone.py USER TRANSPORT REGISTRAR [OPTION ...]`. Commands come on stdin, events go to stdout:
`at 127.0.0.1:5080`, `registration 200 300`, `call 1 CONFIRMED 200`, `media 1 REMOTE_HOLD`, `digit 1 5`, `transfer 1 202`.
With the registrar `none` it does not register.

| command | |
|---|---|
| `dial URI` | call a URI |
| `answer [STATUS]` | answer the call by 200, or refuse it |
| `hangup [CALL]` | end the call |
| `hold`, `unhold` | hold the call, and take it off hold |
| `update` | send an UPDATE with an offer |
| `digits DIGITS` | send digits by INFO |
| `transfer URI` | ask the peer to call a URI |
| `attended` | ask the peer of the last call but one to take the place of the last call |
| `settled` | say so when no transaction of a call has changed for a moment |
| `quit` | unregister, and end when no transaction of a call has changed for a moment |

Each command is for the last call, or the one that `use CALL` has named. These are the options:

| option | |
|---|---|
| `100rel`, `timer` | require it in each call |
| `rings` | answer calls with 180, and wait for the command `answer` |
| `codecs` | offer all codecs of pjsip. It then tells by an UPDATE which one it has chosen, behind each answer with several |
| `port=5080` | listen there |
| `password=SECRET` | answer challenges with it |
| `username=bob` | answer challenges as that user |

Its address-of-record has no port, as RFC 3261 §19.1.1 Table 1 asks. It answers each call with 180 and 200.
"""

from __future__ import annotations

import os
import select
import sys
import time

import pjsua2

user, transport, registrar, *options = sys.argv[1:]
KINDS = {
    "udp": pjsua2.PJSIP_TRANSPORT_UDP,
    "tcp": pjsua2.PJSIP_TRANSPORT_TCP,
    "tls": pjsua2.PJSIP_TRANSPORT_TLS,
}

MEDIA = {
    pjsua2.PJSUA_CALL_MEDIA_NONE: "NONE",
    pjsua2.PJSUA_CALL_MEDIA_ACTIVE: "ACTIVE",
    pjsua2.PJSUA_CALL_MEDIA_LOCAL_HOLD: "LOCAL_HOLD",
    pjsua2.PJSUA_CALL_MEDIA_REMOTE_HOLD: "REMOTE_HOLD",
    pjsua2.PJSUA_CALL_MEDIA_ERROR: "ERROR",
}

QUIET = 0.2
"""Seconds without a change of a transaction, after which a phone is settled. pjsip tells by an UPDATE which codec it has
chosen, right behind the ACK, and refuses or garbles what else it is told to send meanwhile."""

calls = []  # all of its life: one that Python forgets is ended
changed = [0.0]
registered = [False]


def tell(*words):
    print(*words, flush=True)


class Call(pjsua2.Call):
    def __init__(self, account, *arguments):
        super().__init__(account, *arguments)
        self.account = account
        calls.append(self)
        self.number = len(calls)

    def onCallState(self, prm):
        info = self.getInfo()
        tell("call", self.number, info.stateText, info.lastStatusCode)

    def onCallTsxState(self, prm):
        changed[0] = time.monotonic()

    def onCallMediaState(self, prm):
        info = self.getInfo()  # it owns the streams
        tell("media", self.number, *[MEDIA[stream.status] for stream in info.media])

    def onDtmfDigit(self, prm):
        tell("digit", self.number, prm.digit)

    def onCallTransferRequest(self, prm):
        tell("refer", self.number, prm.dstUri)
        prm.newCall = Call(self.account)

    def onCallTransferStatus(self, prm):
        tell("transfer", self.number, prm.statusCode)

    def onCallReplaceRequest(self, prm):
        tell("replaces", self.number)

    def onCallReplaced(self, prm):
        prm.newCall = Call(self.account, prm.newCallId)
        tell("replaced", self.number)


class Account(pjsua2.Account):
    def onRegState(self, prm):
        registered[0] = prm.code == 200 and prm.expiration > 0
        tell("registration", prm.code, prm.expiration)

    def onIncomingCall(self, prm):
        call = Call(self, prm.callId)
        tell("incoming", call.number, call.getInfo().remoteUri)
        for status in (180,) if "rings" in options else (180, 200):
            respond(call, status)


def respond(call, status):
    answer = pjsua2.CallOpParam(True)
    answer.statusCode = status
    call.answer(answer)


def run():
    config = pjsua2.EpConfig()
    config.uaConfig.threadCnt = 0  # all callbacks come in libHandleEvents()
    config.uaConfig.mainThreadOnly = True
    config.logConfig.level = config.logConfig.consoleLevel = 1
    endpoint = pjsua2.Endpoint()
    endpoint.libCreate()
    endpoint.libInit(config)
    endpoint.audDevManager().setNullDev()
    where = pjsua2.TransportConfig()
    where.boundAddress = "127.0.0.1"
    for option in options:
        if option.startswith("port="):
            where.port = int(option.removeprefix("port="))
    made = endpoint.transportCreate(KINDS[transport], where)
    if "codecs" not in options:
        for codec in endpoint.codecEnum2():
            if not codec.codecId.startswith("PCMU/"):
                endpoint.codecSetPriority(codec.codecId, 0)
    endpoint.libStart()
    tell("at", endpoint.transportGetInfo(made).localName)
    wanted = pjsua2.AccountConfig()
    wanted.idUri = f"sip:{user}@127.0.0.1"
    if registrar != "none":
        wanted.regConfig.registrarUri = registrar
    wanted.mediaConfig.transportConfig.boundAddress = "127.0.0.1"
    for option in options:
        if option.startswith("password="):
            secret = option.partition("=")[2]
            names = [each.partition("=")[2] for each in options if each.startswith("username=")]
            name = names[0] if names else user
            wanted.sipConfig.authCreds.append(pjsua2.AuthCredInfo("digest", "*", name, 0, secret))
    if "100rel" in options:
        wanted.callConfig.prackUse = pjsua2.PJSUA_100REL_MANDATORY
    if "timer" in options:
        wanted.callConfig.timerUse = pjsua2.PJSUA_SIP_TIMER_REQUIRED
        wanted.callConfig.timerSessExpiresSec = 90
    account = Account()
    account.create(wanted)
    text = b""
    used = 0
    while True:
        endpoint.libHandleEvents(10)
        while select.select([0], [], [], 0)[0]:
            data = os.read(0, 4096)
            text += data or b"quit\n"
            while b"\n" in text:
                line, _, text = text.partition(b"\n")
                command, _, value = line.decode().partition(" ")
                if command == "dial":
                    Call(account).makeCall(value, pjsua2.CallOpParam(True))
                elif command == "use":
                    used = int(value)
                elif command == "answer":
                    respond(calls[used - 1], int(value or 200))
                elif command == "hangup":
                    calls[int(value or used) - 1].hangup(pjsua2.CallOpParam())
                elif command == "hold":
                    calls[used - 1].setHold(pjsua2.CallOpParam(True))
                elif command == "unhold":
                    off = pjsua2.CallOpParam(True)
                    off.opt.flag = pjsua2.PJSUA_CALL_UNHOLD
                    calls[used - 1].reinvite(off)
                elif command == "update":
                    calls[used - 1].update(pjsua2.CallOpParam(True))
                elif command == "digits":
                    digits = pjsua2.CallSendDtmfParam()
                    digits.method = pjsua2.PJSUA_DTMF_METHOD_SIP_INFO
                    digits.digits = value
                    calls[used - 1].sendDtmf(digits)
                elif command == "transfer":
                    calls[used - 1].xfer(value, pjsua2.CallOpParam(True))
                elif command == "attended":
                    calls[-2].xferReplaces(calls[-1], pjsua2.CallOpParam(True))
                elif command == "settled":
                    while time.monotonic() - changed[0] < QUIET:
                        endpoint.libHandleEvents(10)
                    tell("settled")
                elif command == "quit":
                    if registrar != "none":
                        account.setRegistration(False)
                    ends_at = time.monotonic() + 5
                    while time.monotonic() < ends_at and (
                        registered[0] or time.monotonic() - changed[0] < QUIET
                    ):
                        endpoint.libHandleEvents(10)
                    for _ in range(20):
                        endpoint.libHandleEvents(10)
                    os._exit(
                        0
                    )  # pjsua2's objects are destroyed in an order of Python's, which crashes it


run()
