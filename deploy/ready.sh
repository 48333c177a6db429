#!/bin/bash
# Whether the node takes clients: /readyz, without a program beside the shell.
#   ready [HOST [PORT]]
exec 3<>"/dev/tcp/${1:-127.0.0.1}/${2:-9090}" || exit 1
printf 'GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n' >&3
read -r -t 2 _ status _ <&3
[ "${status:-}" = 200 ]
