-- Those of the rights that the user lacks, each followed by the words of a command that needs it. A right that is missing
-- would show only in the middle of a script, after writes were made.

local missing = {}
for _ = 1, number() do
  local right = argument()
  if not redis.acl_check_cmd(arguments(number())) then missing[#missing + 1] = right end
end
return missing
