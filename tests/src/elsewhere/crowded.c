// A PKCS#11 module in front of another one (CROWDED_MODULE), which has no session left while a file (CROWDED_FILE) exists.
// The list of functions is that of PKCS#11 2.40: a version, then 68 pointers, of which the thirteenth opens a session.
#include <dlfcn.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

typedef unsigned long CK_RV;
struct functions {
    unsigned char version[2];
    void *calls[68];
};
typedef CK_RV (*open_session)(unsigned long, unsigned long, void *, void *, unsigned long *);

enum { OPEN_SESSION = 12 };
static const CK_RV GENERAL_ERROR = 0x05, SESSION_COUNT = 0xb1;
static struct functions ours;
static open_session theirs;

static CK_RV crowded(unsigned long slot, unsigned long flags, void *app, void *notify, unsigned long *session) {
    const char *file = getenv("CROWDED_FILE");
    if (file != NULL && access(file, F_OK) == 0)
        return SESSION_COUNT;
    return theirs(slot, flags, app, notify, session);
}

CK_RV C_GetFunctionList(struct functions **list) {
    const char *module = getenv("CROWDED_MODULE");
    void *library = module == NULL ? NULL : dlopen(module, RTLD_NOW);
    CK_RV (*get)(struct functions **) = library == NULL ? NULL : (CK_RV (*)(struct functions **))dlsym(library, "C_GetFunctionList");
    struct functions *real = NULL;
    if (get == NULL || get(&real) != 0)
        return GENERAL_ERROR;
    ours = *real;
    theirs = (open_session)real->calls[OPEN_SESSION];
    ours.calls[OPEN_SESSION] = (void *)crowded;
    *list = &ours;
    return 0;
}
