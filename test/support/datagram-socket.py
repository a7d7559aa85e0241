# A unix datagram socket for tests (Node has none): prints "ready", then each datagram as one line of JSON.
import json, socket, sys
name = sys.argv[1]
receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
receiver.bind('\0' + name[1:] if name.startswith('@') else name)
print('ready', flush=True)
while True:
    print(json.dumps(receiver.recv(65536).decode()), flush=True)
