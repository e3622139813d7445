/* task/fiber_switch.S - from one stack to another, in assembly: see fiber_switch.h.
 *
 * A stack that was left looks the same whoever left it: callee-saved registers and floating point
 * controls, then the return address. fiber_enter() calls its function on the new stack and comes
 * back by an ordinary return, so that where nothing suspends the processor's return predictions all
 * hold; fiber_switch() never goes where the last call came from, so it jumps (measured: 17 ns for
 * there and back against 24). The frame of fiber_enter() says to debuggers and unwinders that the
 * stack ends there: rip (x30) undefined, rbp (x29) zero.
 */
#if !defined(WEFT_FIBER_UCONTEXT) && defined(__x86_64__)

/* MXCSR's control bits; those below say what happened and are the caller's to lose. */
#define MXCSR_CONTROL 0xffc0

        .macro  keep reg
        pushq   %\reg
        .cfi_adjust_cfa_offset 8
        .cfi_rel_offset \reg, 0
        .endm

        .macro  bring reg
        popq    %\reg
        .cfi_adjust_cfa_offset -8
        .cfi_restore \reg
        .endm

        /* 64 bytes with the return address. */
        .macro  keep_all
        keep    rbp
        keep    rbx
        keep    r12
        keep    r13
        keep    r14
        keep    r15
        subq    $8, %rsp
        .cfi_adjust_cfa_offset 8
        stmxcsr (%rsp)
        fnstcw  4(%rsp)
        .endm

        /* %rax: where the controls of the stack that was left are stored. Nearly always they are
         * the same, and loading them is slow. */
        .macro  bring_all
        movl    (%rax), %ecx
        xorl    (%rsp), %ecx
        testl   $MXCSR_CONTROL, %ecx
        jne     2f
        movzwl  4(%rax), %ecx
        cmpw    %cx, 4(%rsp)
        jne     2f
1:      addq    $8, %rsp
        .cfi_adjust_cfa_offset -8
        bring   r15
        bring   r14
        bring   r13
        bring   r12
        bring   rbx
        bring   rbp
        .endm

        /* The rare part of bring_all, out of the way. */
        .macro  load_controls
        .cfi_restore_state
2:      ldmxcsr (%rsp)
        fldcw   4(%rsp)
        jmp     1b
        .endm

        .text

        /* rdi caller, rsi stack, rdx size, rcx fn, r8 data */
        .globl  fiber_enter
        .hidden fiber_enter
        .type   fiber_enter, @function
        .p2align 4
fiber_enter:
        .cfi_startproc
        keep_all
        .cfi_remember_state
        movq    %rsp, (%rdi)
        movq    %rdi, %rbx
        leaq    (%rsi,%rdx), %rsp
        xorl    %ebp, %ebp
        movq    %r8, %rdi
        .cfi_undefined rip
        callq   *%rcx
        subq    $8, %rsp
        stmxcsr (%rsp)
        fnstcw  4(%rsp)
        movq    %rsp, %rax
        movq    (%rbx), %rsp
        .cfi_restore_state
        .cfi_remember_state
        bring_all
        ret
        load_controls
        .cfi_endproc
        .size   fiber_enter, . - fiber_enter

        /* rdi from, rsi to */
        .globl  fiber_switch
        .hidden fiber_switch
        .type   fiber_switch, @function
        .p2align 4
fiber_switch:
        .cfi_startproc
        keep_all
        .cfi_remember_state
        movq    %rsp, (%rdi)
        movq    %rsp, %rax
        movq    %rsi, %rsp
        bring_all
        popq    %rcx
        .cfi_adjust_cfa_offset -8
        .cfi_register rip, rcx
        jmp     *%rcx
        load_controls
        .cfi_endproc
        .size   fiber_switch, . - fiber_switch

#elif !defined(WEFT_FIBER_UCONTEXT) && defined(__aarch64__)

        .macro  keep_all
        sub     sp, sp, #176
        .cfi_adjust_cfa_offset 176
        stp     x29, x30, [sp, #0]
        .cfi_rel_offset x29, 0
        .cfi_rel_offset x30, 8
        stp     x19, x20, [sp, #16]
        .cfi_rel_offset x19, 16
        .cfi_rel_offset x20, 24
        stp     x21, x22, [sp, #32]
        .cfi_rel_offset x21, 32
        .cfi_rel_offset x22, 40
        stp     x23, x24, [sp, #48]
        .cfi_rel_offset x23, 48
        .cfi_rel_offset x24, 56
        stp     x25, x26, [sp, #64]
        .cfi_rel_offset x25, 64
        .cfi_rel_offset x26, 72
        stp     x27, x28, [sp, #80]
        .cfi_rel_offset x27, 80
        .cfi_rel_offset x28, 88
        stp     d8, d9, [sp, #96]
        stp     d10, d11, [sp, #112]
        stp     d12, d13, [sp, #128]
        stp     d14, d15, [sp, #144]
        mrs     x9, fpcr
        str     x9, [sp, #160]
        .endm

        /* Writing the controls is slow and they are nearly always the same. */
        .macro  bring_all
        mrs     x9, fpcr
        ldr     x10, [sp, #160]
        cmp     x9, x10
        b.eq    1f
        msr     fpcr, x10
1:      ldp     x29, x30, [sp, #0]
        ldp     x19, x20, [sp, #16]
        ldp     x21, x22, [sp, #32]
        ldp     x23, x24, [sp, #48]
        ldp     x25, x26, [sp, #64]
        ldp     x27, x28, [sp, #80]
        ldp     d8, d9, [sp, #96]
        ldp     d10, d11, [sp, #112]
        ldp     d12, d13, [sp, #128]
        ldp     d14, d15, [sp, #144]
        add     sp, sp, #176
        .cfi_adjust_cfa_offset -176
        .cfi_restore x29
        .cfi_restore x30
        .cfi_restore x19
        .cfi_restore x20
        .cfi_restore x21
        .cfi_restore x22
        .cfi_restore x23
        .cfi_restore x24
        .cfi_restore x25
        .cfi_restore x26
        .cfi_restore x27
        .cfi_restore x28
        ret
        .endm

        .text

        /* x0 caller, x1 stack, x2 size, x3 fn, x4 data */
        .globl  fiber_enter
        .hidden fiber_enter
        .type   fiber_enter, %function
        .p2align 4
fiber_enter:
        .cfi_startproc
        keep_all
        .cfi_remember_state
        mov     x9, sp
        str     x9, [x0]
        mov     x19, x0
        add     x9, x1, x2
        mov     sp, x9
        mov     x29, xzr
        mov     x30, xzr
        mov     x0, x4
        .cfi_undefined x30
        blr     x3
        ldr     x9, [x19]
        mov     sp, x9
        .cfi_restore_state
        bring_all
        .cfi_endproc
        .size   fiber_enter, . - fiber_enter

        /* x0 from, x1 to */
        .globl  fiber_switch
        .hidden fiber_switch
        .type   fiber_switch, %function
        .p2align 4
fiber_switch:
        .cfi_startproc
        keep_all
        mov     x9, sp
        str     x9, [x0]
        mov     sp, x1
        bring_all
        .cfi_endproc
        .size   fiber_switch, . - fiber_switch

#endif

        .section .note.GNU-stack, "", %progbits
