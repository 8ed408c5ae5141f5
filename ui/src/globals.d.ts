/** Whether the made-up backend is in the bundle: in development, or built with VITE_FAKE=1. */
declare const __FAKE__: boolean;
