# A client that holds a batch oplock, as Windows does: it may keep what it has, and its handle, until the server breaks it.
# smbholder.py HOST CONF FILE: opens FILE for writing, then carries out lines of its input and answers each with a line.
#   write TEXT    at the end of what it wrote     read    the file     close
import sys
from samba.samba3 import libsmb_samba_internal as smb, param
from samba.credentials import Credentials, DONT_USE_KERBEROS

host, conf, name = sys.argv[1:4]
lp = param.get_context()
lp.load(conf)
creds = Credentials()
creds.guess(lp)
creds.set_kerberos_state(DONT_USE_KERBEROS)
creds.set_username("root")
creds.set_password("secret")
conn = smb.Conn(host, "docs", lp, creds, multi_threaded=True)
REQUEST_OPLOCK, REQUEST_BATCH_OPLOCK = 2, 4
READ, WRITE, SHARE_ALL, OPEN = 0x120089, 0x120116, 7, 1
fnum = conn.create(Name=name, CreateFlags=REQUEST_OPLOCK | REQUEST_BATCH_OPLOCK, DesiredAccess=READ | WRITE, ShareAccess=SHARE_ALL, CreateDisposition=OPEN)
print("open", flush=True)
offset = 0
for line in sys.stdin:
    verb, _, text = line.rstrip("\n").partition(" ")
    if verb == "write":
        data = text.encode()
        conn.write(fnum, data, offset)
        offset += len(data)
        print("written", flush=True)
    elif verb == "read":
        print(conn.read(fnum, 0, 1 << 16).decode(), flush=True)
    elif verb == "close":
        conn.close(fnum)
        print("closed", flush=True)
        break
