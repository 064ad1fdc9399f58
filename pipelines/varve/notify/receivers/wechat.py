"""WeChat Work: an access token, then a message."""

from __future__ import annotations

from varve.notify.config.chat_receivers import WechatConfig
from varve.notify.config.fields import read_secret
from varve.notify.driver import Result
from varve.notify.groups import Outcome
from varve.notify.receivers.call import Call, answer_json
from varve.notify.receivers.http_client import result_of

_TOKEN_LASTS_MS = 7_000_000
"""They last two hours."""
# The token is no longer one.
_TOKEN_ENDED = frozenset({40001, 40014, 42001})


async def wechat(call: Call, config: WechatConfig) -> Result:
    base = config.api_url.rstrip("/")
    token = call.memory.get("token")
    if token is None or call.now_ms() >= call.memory["until_ms"]:
        corp, secret = (
            call.text(config.corp_id),
            call.text(read_secret(config.api_secret, config.api_secret_file)),
        )
        response = await call.client.request(
            "GET", f"{base}/gettoken?corpid={corp}&corpsecret={secret}"
        )
        if not response.is_success:
            return result_of(response)
        answer = answer_json(response)
        token = answer.get("access_token")
        if not token:
            return Result(Outcome.REFUSED, f"WeChat gives no token: {answer.get('errmsg')}")
        call.memory.update(token=token, until_ms=call.now_ms() + _TOKEN_LASTS_MS)
    kind = config.message_type or "text"
    body = {
        "touser": call.text(config.to_user),
        "toparty": call.text(config.to_party),
        "totag": call.text(config.to_tag),
        "agentid": call.text(config.agent_id),
        "safe": "0",
        "msgtype": kind,
        kind: {"content": call.text(config.message)},
    }
    response = await call.post_for_answer(f"{base}/message/send?access_token={token}", body)
    code = answer_json(response).get("errcode", 0)
    if response.is_success and code:
        if code in _TOKEN_ENDED:
            call.memory.clear()
            return Result(Outcome.FAILED, f"WeChat: error {code}, the token has ended")
        return Result(Outcome.REFUSED, f"WeChat: error {code}")
    return result_of(response)
