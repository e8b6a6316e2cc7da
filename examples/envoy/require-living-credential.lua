-- What jwt_authn cannot say of a token: that the connection may show it, that it allows the action, and that its task lives.
-- Whatever is missing, or cannot be asked, is a no.

local AUDIENCE = "https://documents.dev.example"
local BROKER = "localhost:7701"
-- What a method takes to be allowed. Others are not.
local ACTIONS = { GET = "read", HEAD = "read", POST = "annotate" }
local BROKER_TIMEOUT_MS = 2000

local DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

-- The base64url of RFC 7515 section 2, of bytes in hexadecimal.
local function base64url(hex)
  local bits, text = "", ""
  for digit in hex:gmatch("%x") do
    local value = tonumber(digit, 16)
    for power = 3, 0, -1 do
      bits = bits .. math.floor(value / 2 ^ power) % 2
    end
  end
  for group in (bits .. ("0"):rep(-#bits % 6)):gmatch("......") do
    local at = tonumber(group, 2) + 1
    text = text .. DIGITS:sub(at, at)
  end
  return text
end

local function allows(details, action)
  for _, entry in ipairs(type(details) == "table" and details or {}) do
    if entry.type == "resource_access" and entry.audience == AUDIENCE then
      for _, allowed in ipairs(entry.actions or {}) do
        if allowed == action then
          return true
        end
      end
    end
  end
  return false
end

local function refuse(handle, status, challenge)
  local headers = { [":status"] = status, ["www-authenticate"] = challenge }
  handle:respond(headers, "")
end

function envoy_on_request(handle)
  local metadata = handle:streamInfo():dynamicMetadata():get("envoy.filters.http.jwt_authn")
  local claims = metadata and metadata["token"]
  local _, _, token = (handle:headers():get("authorization") or ""):find("^[Bb]earer ([%w%-_%.]+)$")
  if not claims or not token then
    return refuse(handle, "401", 'Bearer')
  end

  -- RFC 8705 section 3: a token that is bound to another certificate has been stolen. One bound to none is not taken.
  local connection = handle:streamInfo():downstreamSslConnection()
  local bound_to = type(claims.cnf) == "table" and claims.cnf["x5t#S256"]
  if not connection or not bound_to or base64url(connection:sha256PeerCertificateDigest()) ~= bound_to then
    return refuse(handle, "401", 'Bearer error="invalid_token"')
  end

  local action = ACTIONS[handle:headers():get(":method")]
  if not action or not allows(claims.authorization_details, action) then
    return refuse(handle, "403", 'Bearer error="insufficient_scope"')
  end

  -- RFC 7662. The broker answers `{"active":false}` and nothing else for a token whose task is over.
  local headers, body = handle:httpCall("leasehold", {
    [":method"] = "POST",
    [":path"] = "/oauth2/introspect",
    [":authority"] = BROKER,
    ["content-type"] = "application/x-www-form-urlencoded",
  }, "token=" .. token, BROKER_TIMEOUT_MS)
  if headers[":status"] ~= "200" or type(body) ~= "string" then
    return refuse(handle, "503", nil)
  end
  if not body:find('"active":true', 1, true) then
    return refuse(handle, "401", 'Bearer error="invalid_token"')
  end
  -- The server has no use for it, and what it does not have it cannot pass on.
  handle:headers():remove("authorization")
end
