; The installer for Windows: for one user, without an administrator. `cargo xtask windows package` and
; `cargo xtask package` give what is in capitals.
;
; /S installs without a word, /P shows only the progress, /R starts the program at the end, /UPDATE
; says that an older version is replaced: what the updater of the program gives.

Unicode true
!ifdef AMD64
  ; Debian's NSIS has this kind; others' installers are programs for 32 bits.
  Target amd64-unicode
!endif
ManifestDPIAware true
RequestExecutionLevel user
!if "${QUICK}" == "yes"
  SetCompressor zlib
!else
  SetCompressor /SOLID lzma
!endif

!include FileFunc.nsh
!include LogicLib.nsh
!include MUI2.nsh

!define NAME "Infera Node"
!define PROGRAM "infera-node.exe"
!define LINKS_KEY "Software\Classes\infera"
!define UNINSTALL_KEY "Software\Microsoft\Windows\CurrentVersion\Uninstall\${NAME}"
!define RUN_KEY "Software\Microsoft\Windows\CurrentVersion\Run"
!define APPROVED_KEY "Software\Microsoft\Windows\CurrentVersion\Explorer\StartupApproved\Run"
!define WEB_VIEW "Microsoft\EdgeUpdate\Clients\{F3017226-FE2A-4295-8BDF-00C3A9A7E4C5}"
!define WEB_VIEW_SOURCE "https://go.microsoft.com/fwlink/p/?LinkId=2124703"
; Held by the program while it runs.
!define MUTEX "network.infera.node-sim"
!define DATA "$LOCALAPPDATA\${NAME}"

Name "${NAME}"
OutFile "${OUT}"
InstallDir "$LOCALAPPDATA\Programs\${NAME}"
InstallDirRegKey HKCU "${UNINSTALL_KEY}" "InstallLocation"
BrandingText "${NAME} ${VERSION}"
VIProductVersion "${VERSION}.0"
VIAddVersionKey ProductName "${NAME}"
VIAddVersionKey ProductVersion "${VERSION}"
VIAddVersionKey FileVersion "${VERSION}"
VIAddVersionKey FileDescription "${NAME}"
VIAddVersionKey CompanyName "${PUBLISHER}"
VIAddVersionKey LegalCopyright "${COPYRIGHT}"
!ifdef SIGN
  !uninstfinalize '${SIGN} "%1"'
  !finalize '${SIGN} "%1"'
!endif

!define MUI_ICON "${ICON}"
!define MUI_UNICON "${ICON}"
!define MUI_WELCOMEFINISHPAGE_BITMAP "${PICTURE}"
!define MUI_UNWELCOMEFINISHPAGE_BITMAP "${PICTURE}"
!define MUI_WELCOMEPAGE_TITLE "${NAME} ${VERSION}"
!define MUI_WELCOMEPAGE_TEXT "$(WELCOME)"
!define MUI_FINISHPAGE_TITLE "$(INSTALLED)"
!define MUI_FINISHPAGE_TEXT "$(NEXT)"
!define MUI_FINISHPAGE_RUN_TEXT "$(START)"
!define MUI_FINISHPAGE_RUN "$INSTDIR\${PROGRAM}"
!define MUI_PAGE_CUSTOMFUNCTION_PRE SkipWhenPassive
!insertmacro MUI_PAGE_WELCOME
!insertmacro MUI_PAGE_INSTFILES
!define MUI_PAGE_CUSTOMFUNCTION_PRE SkipWhenPassive
!insertmacro MUI_PAGE_FINISH
!insertmacro MUI_UNPAGE_CONFIRM
!insertmacro MUI_UNPAGE_INSTFILES
!insertmacro MUI_LANGUAGE English
!insertmacro MUI_LANGUAGE German

LangString WELCOME ${LANG_ENGLISH} "Lends this machine's GPU to an AI network while you do not need it, and earns points for every answer that was checked and found right.$\n$\nIt is installed for you alone. Nothing is shared before you agree, and a click in the tray pauses it."
LangString WELCOME ${LANG_GERMAN} "Leiht die GPU dieses Rechners einem KI-Netzwerk, solange Sie sie nicht brauchen, und verdient Punkte für jede Antwort, die geprüft und für richtig befunden wurde.$\n$\nEs wird nur für Sie eingerichtet. Nichts wird geteilt, bevor Sie zustimmen, und ein Klick im Infobereich hält es an."
LangString INSTALLED ${LANG_ENGLISH} "It is installed"
LangString INSTALLED ${LANG_GERMAN} "Es ist eingerichtet"
LangString NEXT ${LANG_ENGLISH} "${NAME} checks what this machine has, then asks you for a network and a model. You find it in the start menu and, while it runs, in the tray."
LangString NEXT ${LANG_GERMAN} "${NAME} prüft, was dieser Rechner hat, und fragt Sie dann nach einem Netzwerk und einem Modell. Sie finden es im Startmenü und, solange es läuft, im Infobereich."
LangString START ${LANG_ENGLISH} "Start it now"
LangString START ${LANG_GERMAN} "Jetzt starten"
LangString RUNNING ${LANG_ENGLISH} "${NAME} is still running. Quit it in its tray, then try again."
LangString RUNNING ${LANG_GERMAN} "${NAME} läuft noch. Beenden Sie es im Infobereich und versuchen Sie es dann noch einmal."
LangString GETTING_WEB_VIEW ${LANG_ENGLISH} "Getting Microsoft Edge WebView2, which draws the window"
LangString GETTING_WEB_VIEW ${LANG_GERMAN} "Microsoft Edge WebView2, das das Fenster zeichnet, wird geholt"
LangString NO_WEB_VIEW ${LANG_ENGLISH} "WebView2 could not be installed. The program says how to get it."
LangString NO_WEB_VIEW ${LANG_GERMAN} "WebView2 ließ sich nicht installieren. Das Programm sagt, wie man es bekommt."
LangString DELETE_DATA ${LANG_ENGLISH} "Delete your data too? That is the node's identity, without which its points cannot be claimed, its history, settings and downloaded models in$\n${DATA}"
LangString DELETE_DATA ${LANG_GERMAN} "Auch Ihre Daten löschen? Das sind die Identität des Knotens, ohne die seine Punkte nicht eingefordert werden können, sein Verlauf, die Einstellungen und geladene Modelle in$\n${DATA}"

Var Passive
Var Start

Function .onInit
  ${GetParameters} $0
  ClearErrors
  ${GetOptions} $0 "/P" $1
  ${IfNot} ${Errors}
    StrCpy $Passive yes
    SetAutoClose true
  ${EndIf}
  ClearErrors
  ${GetOptions} $0 "/R" $1
  ${IfNot} ${Errors}
    StrCpy $Start yes
  ${EndIf}
FunctionEnd

Function SkipWhenPassive
  ${If} $Passive == yes
    Abort
  ${EndIf}
FunctionEnd

; Ends the program that is running and waits until it has handed its work back.
!macro END_PROGRAM PREFIX
  Function ${PREFIX}EndProgram
    again:
    ${If} ${FileExists} "$INSTDIR\${PROGRAM}"
      ExecWait '"$INSTDIR\${PROGRAM}" --quit'
    ${EndIf}
    StrCpy $1 0
    ${DoWhile} $1 < 40
      System::Call 'kernel32::OpenMutexW(i 0x100000, i 0, w "${MUTEX}") p .r0'
      ${If} $0 P= 0
        Return
      ${EndIf}
      System::Call 'kernel32::CloseHandle(p r0)'
      Sleep 250
      IntOp $1 $1 + 1
    ${Loop}
    MessageBox MB_RETRYCANCEL|MB_ICONEXCLAMATION "$(RUNNING)" /SD IDCANCEL IDRETRY again
    SetErrorLevel 2
    Abort
  FunctionEnd
!macroend
!insertmacro END_PROGRAM ""
!insertmacro END_PROGRAM "un."

Function GetWebView
  ; The installer's own view of the registry is that of 32 bits or of 64, as its kind is.
  ReadRegStr $0 HKLM "SOFTWARE\WOW6432Node\${WEB_VIEW}" "pv"
  ReadRegStr $1 HKLM "SOFTWARE\${WEB_VIEW}" "pv"
  ReadRegStr $2 HKCU "Software\${WEB_VIEW}" "pv"
  ${If} "$0$1$2" != ""
    Return
  ${EndIf}
  DetailPrint "$(GETTING_WEB_VIEW)"
  StrCpy $3 "$TEMP\MicrosoftEdgeWebview2Setup.exe"
  nsExec::Exec '"$SYSDIR\curl.exe" --location --fail --silent --max-time 120 --output "$3" "${WEB_VIEW_SOURCE}"'
  Pop $0
  ${If} $0 == 0
    ExecWait '"$3" /silent /install' $0
  ${EndIf}
  Delete "$3"
  ${If} $0 != 0
    DetailPrint "$(NO_WEB_VIEW)"
  ${EndIf}
FunctionEnd

Section
  Call EndProgram
  SetOutPath "$INSTDIR"
  File "/oname=${PROGRAM}" "${SOURCE}\${PROGRAM}"
!ifdef LOADER
  File "/oname=WebView2Loader.dll" "${LOADER}"
!endif
  File "/oname=third-party-licences.txt" "${LICENCES}"
  File "/oname=user-guide.md" "${GUIDE}"
  WriteUninstaller "$INSTDIR\uninstall.exe"
  CreateShortcut "$SMPROGRAMS\${NAME}.lnk" "$INSTDIR\${PROGRAM}"
  ; A click on an invitation opens the program.
  WriteRegStr HKCU "${LINKS_KEY}" "" "URL:Infera invitation"
  WriteRegStr HKCU "${LINKS_KEY}" "URL Protocol" ""
  WriteRegStr HKCU "${LINKS_KEY}\DefaultIcon" "" "$INSTDIR\${PROGRAM},0"
  WriteRegStr HKCU "${LINKS_KEY}\shell\open\command" "" '"$INSTDIR\${PROGRAM}" -- "%1"'
  WriteRegStr HKCU "${UNINSTALL_KEY}" "DisplayName" "${NAME}"
  WriteRegStr HKCU "${UNINSTALL_KEY}" "DisplayVersion" "${VERSION}"
  WriteRegStr HKCU "${UNINSTALL_KEY}" "Publisher" "${PUBLISHER}"
  WriteRegStr HKCU "${UNINSTALL_KEY}" "DisplayIcon" "$INSTDIR\${PROGRAM}"
  WriteRegStr HKCU "${UNINSTALL_KEY}" "InstallLocation" "$INSTDIR"
  WriteRegStr HKCU "${UNINSTALL_KEY}" "UninstallString" '"$INSTDIR\uninstall.exe"'
  WriteRegStr HKCU "${UNINSTALL_KEY}" "QuietUninstallString" '"$INSTDIR\uninstall.exe" /S'
  WriteRegDWORD HKCU "${UNINSTALL_KEY}" "NoModify" 1
  WriteRegDWORD HKCU "${UNINSTALL_KEY}" "NoRepair" 1
  ${GetSize} "$INSTDIR" "/S=0K" $0 $1 $2
  WriteRegDWORD HKCU "${UNINSTALL_KEY}" "EstimatedSize" $0
  Call GetWebView
SectionEnd

; After all pages, so that a person's program is not started before they are done.
Function .onInstSuccess
  ${If} $Start == yes
    Exec '"$INSTDIR\${PROGRAM}"'
  ${EndIf}
FunctionEnd

; /DATA deletes the data too where nobody is asked.
Section Uninstall
  Call un.EndProgram
  Delete "$INSTDIR\${PROGRAM}"
  Delete "$INSTDIR\WebView2Loader.dll"
  Delete "$INSTDIR\third-party-licences.txt"
  Delete "$INSTDIR\user-guide.md"
  Delete "$INSTDIR\uninstall.exe"
  RMDir "$INSTDIR"
  Delete "$SMPROGRAMS\${NAME}.lnk"
  DeleteRegKey HKCU "${UNINSTALL_KEY}"
  DeleteRegKey HKCU "${LINKS_KEY}"
  ; Starting with the system, and what the task manager says of it.
  DeleteRegValue HKCU "${RUN_KEY}" "${NAME}"
  DeleteRegValue HKCU "${APPROVED_KEY}" "${NAME}"
  ${GetParameters} $0
  ClearErrors
  ${GetOptions} $0 "/DATA" $1
  ${If} ${Errors}
    MessageBox MB_YESNO|MB_DEFBUTTON2|MB_ICONQUESTION "$(DELETE_DATA)" /SD IDNO IDYES delete
    Return
  ${EndIf}
  delete:
  RMDir /r "${DATA}"
SectionEnd
